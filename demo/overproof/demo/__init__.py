"""Problems and tiny models that let the whole of Overproof run offline on a laptop."""
