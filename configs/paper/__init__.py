"""The models of Chamain, Qi and Ding (IEEE Internet of Things Journal, 2022), as far as they are public."""
