seen <- 0
coro::loop(for (batch in batches) {
  seen <- seen + batch[[1]]$size(1)
})
