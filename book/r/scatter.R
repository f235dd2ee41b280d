library(ggplot2)

latent <- data.frame(z1 = points[, 1], z2 = points[, 2], class = factor(labels))
ggplot(latent, aes(z1, z2, colour = class)) +
  geom_point(size = 0.8) +
  coord_fixed(xlim = c(-4, 4), ylim = c(-4, 4))
