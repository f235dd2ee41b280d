library(torch)
library(torchvision)

mnist <- mnist_dataset(
  root = "data", train = TRUE, download = TRUE,
  transform = transform_to_tensor   # scales to [0, 1], adds the channel
)
batches <- dataloader(mnist, batch_size = 128, shuffle = TRUE)
