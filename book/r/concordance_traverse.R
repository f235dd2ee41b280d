decode <- function(z) {
  torch_sigmoid(z$sum(dim = 2))$view(c(-1, 1, 1, 1))$expand(c(-1, 1, 4, 4))
}
steps <- seq(-2, 2, length.out = 3)
rows <- NULL
for (z2 in rev(steps)) {
  row <- NULL
  for (z1 in steps) {
    image <- decode(torch_tensor(matrix(c(z1, z2), nrow = 1)))
    row <- cbind(row, as_array(image[1, 1, , ]))
  }
  rows <- rbind(rows, row)
}
plot(as.raster(rows))
