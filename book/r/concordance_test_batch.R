everything <- dataloader(ten, batch_size = 10, shuffle = FALSE)
c(pictures, numbers) %<-% dataloader_next(dataloader_make_iter(everything))
pictures$size()
