x[1, 1]       # the first element
x[, 1]        # the first column
x[-1, ]       # the last row: torch counts back here, base R would drop
x[, 1:2]      # columns 1 and 2
x[2:N, ]      # from the second row to the end
x[newaxis, ..]
