library(dplyr)
library(ggplot2)

codes <- as.data.frame(as_array(mean$cpu()))
codes <- mutate(codes, kind = as.factor(c(0, 1, 0, 1, 1)))
ggplot(codes) +
  geom_point(aes(V1, V2, colour = kind), size = 1) +
  coord_fixed(xlim = c(-4, 4), ylim = c(-4, 4))
