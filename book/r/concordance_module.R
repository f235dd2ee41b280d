linear_encoder <- nn_module(
  "LinearEncoder",
  initialize = function(latent_dim = 2) {
    self$latent_dim <- latent_dim
    self$mean <- nn_linear(784, latent_dim)
    self$log_var <- nn_linear(784, latent_dim)
  },
  forward = function(x) {
    features <- torch_flatten(x, start_dim = 2)
    list(self$mean(features), self$log_var(features))
  }
)
model <- linear_encoder(latent_dim = 2)
