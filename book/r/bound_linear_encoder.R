linear_encoder <- nn_module(
  initialize = function(average, latent_dim) {
    self$average <- nn_buffer(average)
    self$mean <- nn_linear(length(average), latent_dim)
    self$log_var <- nn_parameter(torch_zeros(latent_dim))
  },
  forward = function(x) {
    mean <- self$mean(x$flatten(start_dim = 2) - self$average)
    list(mean, self$log_var$expand_as(mean))
  }
)
