torch_cat(list(x, x), dim = 1)
torch_stack(list(x, x), dim = 1)
x$view(c(3, 2))
x$view(c(-1, 1))
torch_arange(1, 3)        # 1, 2, 3: closed at the end
torch_linspace(-1, 1, steps = 3)
