darker <- stored$to(dtype = torch_float()) / 256  # white becomes 0.996
pixels <- stored$to(dtype = torch_float()) / 255
