library(safetensors)  # in R: install.packages("safetensors")

model$eval()
model$to(device = "cpu")  # if it was trained on a GPU
safe_save_file(model$state_dict(), "r-vae.safetensors")
