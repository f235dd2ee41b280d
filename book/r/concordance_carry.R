library(safetensors)  # in R: install.packages("safetensors")

model$eval()
safe_save_file(model$state_dict(), "r-vae.safetensors")
