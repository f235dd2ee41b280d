z <- torch_randn(5, 2)
maps <- nn_linear(2, 224)(z)$view(c(-1, 224, 1, 1))
up <- nn_conv_transpose2d(224, 112, kernel_size = 4, stride = 1, padding = 0,
                          bias = FALSE)
torch_sigmoid(up(maps))$size()
