optimizer <- optim_adam(model$parameters, lr = 2e-3)
scheduler <- lr_lambda(optimizer, function(step) 1 / (1 + 10 * step / steps))
