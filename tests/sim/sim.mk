# SPDX-License-Identifier: Apache-2.0
#
# The simulator: linked with the pure state machines alone.

SIM_PARTS := $(filter-out tests/sim/test_%,$(wildcard tests/sim/*.c))
SIM_TESTS := $(patsubst tests/sim/%.c,$(O)/tests/sim/%,$(wildcard tests/sim/test_*.c))
SIM_OBJECTS := $(SIM_PARTS:%.c=$(O)/obj/%.o) \
	$(foreach s,ha/role ha/role_word ha/role_primary ha/role_backup ha/epoch,\
	$(O)/obj/$(s).o)

$(O)/tests/sim/test_%: $(O)/obj/tests/sim/test_%.o $(SIM_OBJECTS)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ -o $@

.PHONY: sim-tests
sim-tests: $(SIM_TESTS)
tests: sim-tests
