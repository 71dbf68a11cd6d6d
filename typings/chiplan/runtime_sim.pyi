from runtime_sim import *
