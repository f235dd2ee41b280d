model$eval()
with_no_grad({
  z <- torch_randn(64, 128)
  samples <- torch_sigmoid(model$decoder(z))
})
