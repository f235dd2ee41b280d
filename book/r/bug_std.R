# broken
z <- mean + 0.5 * log_var * torch_randn_like(mean)

# fixed
z <- mean + torch_exp(0.5 * log_var) * torch_randn_like(mean)
