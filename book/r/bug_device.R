# broken: works on one kind of machine
noise <- torch_randn(mean$shape)$to(device = "cuda")

# fixed: works wherever `mean` is
noise <- torch_randn_like(mean)
