library(magrittr)

features <- x %>% nnf_leaky_relu(0.01) %>% torch_flatten(start_dim = 2)
features <- x |> nnf_leaky_relu(0.01) |> torch_flatten(start_dim = 2)
