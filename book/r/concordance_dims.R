x$sum(dim = 2)            # over columns: one number per row
x$argmax(dim = 2)         # positions, from 1
images$mean(dim = c(3, 4))
images$flatten(start_dim = 2)
torch_flatten(images, start_dim = 2)
images$permute(c(1, 3, 4, 2))
images$unsqueeze(1)
