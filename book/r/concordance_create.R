library(torch)

x <- torch_tensor(matrix(1:6, nrow = 2, byrow = TRUE), dtype = torch_float())
noise <- torch_randn(2, 3)
like <- torch_randn_like(x)
x$size()      # c(2, 3), as are x$shape and dim(x)
x$size(1)     # 2
