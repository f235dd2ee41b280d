batches <- dataloader(ten, batch_size = 4, shuffle = TRUE)
length(batches)                      # 3
iter <- dataloader_make_iter(batches)
batch <- dataloader_next(iter)
batch[[1]]$size()                    # or batch$x
