optimizer <- optim_adam(model$parameters, lr = 0.001)

model$train()
c(mean, log_var) %<-% model(images)
loss <- torch_sum(mean^2 + log_var^2)
optimizer$zero_grad()
loss$backward()
optimizer$step()
loss$item()
