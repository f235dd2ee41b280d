optimizer <- optim_adam(model$parameters, lr = 1e-3)

model$train()
coro::loop(for (batch in batches) {
  x <- batch[[1]]$to(device = device)
  c(logits, mean, log_var) %<-% model(x)
  c(reconstruction, kl) %<-% negative_elbo(logits, x, mean, log_var)
  loss <- (reconstruction + kl)$mean()

  optimizer$zero_grad()
  loss$backward()
  optimizer$step()
})
