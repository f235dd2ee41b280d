names(model$parameters)
sum(sapply(model$parameters, function(p) p$numel()))
model$mean$weight$size()
model$parameters[["mean.bias"]]$requires_grad
