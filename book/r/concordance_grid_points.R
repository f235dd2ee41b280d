steps <- seq(-8, 8, length.out = 8)              # equal steps
shares <- seq(1 / 16, 15 / 16, length.out = 8)
quantiles <- qnorm(shares)                       # equal shares of the prior
