as_maps <- nn_module(
  initialize = function(channels) {
    self$channels <- channels
  },
  forward = function(z) {
    z$view(c(-1, self$channels, 1, 1))
  }
)
decoder <- nn_sequential(nn_linear(2, 224), as_maps(224), nn_sigmoid())
