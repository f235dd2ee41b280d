torch_manual_seed(1)
a <- torch_randn(3)
with_torch_manual_seed(b <- torch_randn(3), seed = 1)
