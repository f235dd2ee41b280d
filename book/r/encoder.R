encoder <- nn_module(
  initialize = function(latent_dim) {
    self$body <- nn_sequential(
      down(1, 28), down(28, 56), down(56, 112), down(112, 224),
      nn_flatten()                # keeps dimension 1, the batch
    )
    self$mean <- nn_linear(896, latent_dim)
    self$log_var <- nn_linear(896, latent_dim)
  },
  forward = function(x) {
    features <- self$body(x)
    list(self$mean(features), self$log_var(features))
  }
)
