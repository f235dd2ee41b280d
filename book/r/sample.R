model$eval()
with_no_grad({
  z <- torch_randn(64, 2)
  samples <- torch_sigmoid(model$decoder(z))
})
