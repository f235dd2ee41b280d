m <- as_array(x)                     # as.array(x) and as.matrix(x) do, too
v <- as.numeric(x$sum())
labels <- as.integer(torch_tensor(c(3L, 1L)))
back <- torch_tensor(m)
