history <- list()
for (step in 1:4) {
  history[[step]] <- 100 / step
  if (step %% 2 == 0 && !is.null(history)) {
    cat("step", step, "loss", sprintf("%.1f", history[[step]]), "\n")
  }
}
halves <- purrr::map(history, function(loss) loss / 2)
length(history)
