squares <- dataset(
  name = "squares",
  initialize = function(n) {
    self$n <- n
  },
  .getitem = function(i) {
    list(x = torch_full(c(1, 28, 28), i / self$n), y = i)
  },
  .length = function() self$n
)
ten <- squares(10)
first <- ten[1]
