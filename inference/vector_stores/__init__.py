"""Other programs' vector stores, whose collections are to say the dimension of their vectors in their names."""
