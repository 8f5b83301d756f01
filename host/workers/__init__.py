"""Workers: engines that live elsewhere, in processes of this machine or on a Ray cluster, behind the same methods."""
