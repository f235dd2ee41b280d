encoder <- nn_sequential(
  nn_conv2d(1, 28, kernel_size = 3, stride = 2, padding = 1),
  nn_batch_norm2d(28),
  nn_leaky_relu(0.01),
  nn_flatten(),                      # from dimension 2 on
  nn_linear(28 * 14 * 14, 2)
)
encoder(images)$size()
