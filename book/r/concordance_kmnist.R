library(torchvision)

kmnist <- kmnist_dataset(
  root = "data", train = TRUE, download = TRUE,
  transform = function(x) transform_to_tensor(x)
)
item <- kmnist[1]
item$x$size()                        # 1 28 28
item$y                               # labels begin at 1
length(kmnist)
