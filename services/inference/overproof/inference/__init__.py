"""Completions: k solutions per problem out of a model, with honest counts and a seed for each sample."""
