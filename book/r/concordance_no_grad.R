model$eval()
with_no_grad({
  c(mean, log_var) %<-% model(images)
})
mean$requires_grad                   # FALSE
free <- mean$detach()
model$train()
