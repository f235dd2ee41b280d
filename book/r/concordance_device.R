device <- if (cuda_is_available()) {
  torch_device("cuda")
} else if (backends_mps_is_available()) {
  torch_device("mps")
} else {
  torch_device("cpu")
}
model$to(device = device)
x <- x$to(device = device)
x <- x$cpu()
