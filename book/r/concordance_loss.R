pixels <- torch_sigmoid(logits)
loss <- nnf_binary_cross_entropy(pixels, target, reduction = "sum")
same <- nnf_binary_cross_entropy_with_logits(logits, target, reduction = "sum")
torch_allclose(loss, same)
