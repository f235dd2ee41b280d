steps <- torch_linspace(-8, 8, steps = 8)
c(z2, z1) %<-% torch_meshgrid(list(steps$flip(1), steps), indexing = "ij")
z <- torch_stack(list(z1$flatten(), z2$flatten()), dim = 2)
grid <- vision_make_grid(torch_sigmoid(model$decoder(z)), num_rows = 8, scale = FALSE)
