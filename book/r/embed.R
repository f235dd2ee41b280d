model$eval()
with_no_grad({
  c(mean, log_var) %<-% model$encoder(test_images)
})
points <- as.matrix(mean$cpu())
