# broken: still in training mode after the loop
codes <- with_no_grad(model$encoder(images))[[1]]

# fixed
model$eval()
codes <- with_no_grad(model$encoder(images))[[1]]
