library(zeallot)

encode <- function(x) {
  list(x$mean(dim = 2), x$std(dim = 2))
}
c(centre, spread) %<-% encode(x)
encode(x) %->% c(centre, spread)
both <- encode(x)
both[[1]]
