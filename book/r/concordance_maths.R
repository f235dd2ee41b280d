variance <- torch_exp(log_var)       # or log_var$exp()
square <- torch_pow(mean, 2)         # or mean^2
kl <- -0.5 * torch_sum(1 + log_var - mean^2 - log_var$exp())
kl$item()
