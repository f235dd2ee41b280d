torch_save(model$state_dict(), "weights.pt")
fresh <- linear_encoder(latent_dim = 2)
fresh$load_state_dict(torch_load("weights.pt"))
