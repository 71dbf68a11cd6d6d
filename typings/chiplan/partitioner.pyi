from partitioner import *
