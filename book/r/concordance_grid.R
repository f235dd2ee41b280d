sheet <- vision_make_grid(images, num_rows = 4, padding = 2, scale = FALSE)
sheet <- as_array(sheet$cpu())       # channels, height, width
plot(as.raster(sheet[1, , ]))
