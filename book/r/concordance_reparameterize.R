std <- torch_exp(0.5 * log_var)
eps <- torch_randn_like(std)
z <- mean + eps * std
