shown <- images[1:4, 1, , ] %>%
  as_array() %>%
  purrr::array_tree(1) %>%
  purrr::map(as.raster)
par(mfrow = c(1, 4), mar = rep(0, 4))
purrr::walk(shown, plot)
