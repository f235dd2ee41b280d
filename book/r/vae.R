library(zeallot)

vae <- nn_module(
  initialize = function(latent_dim) {
    self$encoder <- encoder(latent_dim)
    self$decoder <- decoder(latent_dim)
  },
  forward = function(x) {
    c(mean, log_var) %<-% self$encoder(x)
    z <- reparameterize(mean, log_var)
    list(self$decoder(z), mean, log_var)
  }
)
